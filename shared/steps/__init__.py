"""The steps of the workflows: plain functions of a message that read from Azure and return what follows."""

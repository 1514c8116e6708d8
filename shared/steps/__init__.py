"""The steps of the workflows: plain functions of a message that read of Azure and return what follows."""

"""The workflows: their steps as plain functions, and how they follow each other, as data."""

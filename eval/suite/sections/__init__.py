"""The sections of the suite's report, a file for each family of tasks."""

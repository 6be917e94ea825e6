"""Machines that are there already, reached by SSH and shared by clusters."""

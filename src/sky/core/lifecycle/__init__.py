"""What happens next: a small machine and one transition table per noun."""

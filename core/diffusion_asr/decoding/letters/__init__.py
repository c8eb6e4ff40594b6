"""Text by letters: a canvas of letters on short slots, and a language model of letters."""

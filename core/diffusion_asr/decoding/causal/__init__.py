"""What the shipped decoder does after its draft: verify, rewrite and rescore from left to right.

Everything here reads the text causally, a pass after another; nothing but ``models/canvas.py`` knows it.
"""

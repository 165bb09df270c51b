"""Networks that transformers does not have: students are made of them, and teachers run them.

Students and teachers know nothing of each other, so what both are made of has a room below them.
"""

"""Counts the words of a file; the program that the example's task runs."""

import sys
from collections import Counter
from pathlib import Path

words = Path(sys.argv[1]).read_text(encoding="utf-8").lower().split()
for word, count in Counter(words).most_common(3):
    print(f"{count:3d}  {word}")

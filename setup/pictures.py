#!/usr/bin/env python3
"""Draws the text of a terminal, from standard input, as SVG on standard output."""
import html
import sys

CHARACTER, LINE, MARGIN, BAR = 8.4, 19, 16, 30


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    width = max(map(len, lines)) * CHARACTER + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN + BAR
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img">')
    print("<title>A leaderboard in a terminal</title>")
    print("<style>text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d7dde4;white-space:pre}"
          ".rule{fill:#5b6672}.prompt{fill:#7ee0a6}.best{fill:#ffd479}.note{fill:#8b98a5}</style>")
    print('<rect width="100%" height="100%" rx="8" fill="#161b22"/>')
    for at, color in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        print(f'<circle cx="{20 + 20 * at}" cy="16" r="6" fill="{color}"/>')
    for at, line in enumerate(lines):
        kind = ("prompt" if line.startswith("$") else "rule" if line.startswith("─") else
                "best" if " * " in line and not line.startswith("*") else
                "note" if line.startswith(("*", "not shown")) else "")
        y = BAR + MARGIN + LINE * (at + 0.75)
        attribute = f' class="{kind}"' if kind else ""
        print(f'<text x="{MARGIN}" y="{y:.0f}" xml:space="preserve" textLength="{len(line) * CHARACTER:.1f}"{attribute}>'
              f"{html.escape(line)}</text>" if line else "")
    print("</svg>")


if __name__ == "__main__":
    main()

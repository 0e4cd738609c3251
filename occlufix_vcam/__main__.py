"""`python -m occlufix_vcam`: the same as the occlufix-vcam command."""

from occlufix_vcam.cli import main

if __name__ == "__main__":
    main()

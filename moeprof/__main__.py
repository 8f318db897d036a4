"""`python -m moeprof` is the command line."""

from moeprof.cli import main

if __name__ == "__main__":
    main()

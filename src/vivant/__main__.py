"""`python -m vivant` is the command `vivant`."""

from vivant.cli import program

if __name__ == "__main__":
    program()

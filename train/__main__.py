"""python -m train: trains, evaluates and exports the networks that the product runs."""

from train.cli import main

if __name__ == "__main__":
    main()

"""A process of a study's team, with the small shards of the harness."""

from arena import make_comparable

from cytolens.study.teammate import main

if __name__ == "__main__":
    make_comparable()
    main()

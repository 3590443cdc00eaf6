"""The stages of a study, a file per chapter; every Stage that is exported here is found."""

"""Configuration: one tree of dataclasses (`schema`), what makes sense in it (`validation`), and the way in (`cli`)."""

"""The support set, and where its examples lie."""

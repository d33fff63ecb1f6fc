"""DEIG itself: text encoder, Instance Detail Extractor, position net, and the adapter they make up."""

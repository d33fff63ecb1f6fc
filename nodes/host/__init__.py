"""The only files that know how the host samples."""

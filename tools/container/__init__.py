"""Container images without a container engine: file trees, Debian packages, OCI layouts. tools/image puts them together."""

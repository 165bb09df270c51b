"""The kinds of stages that come with kdcache, one a file."""

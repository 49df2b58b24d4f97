"""hosts.toml and where things are kept: parsed once, validated, frozen."""

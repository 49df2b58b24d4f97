#!/bin/sh
# Makes /opt/malmo a kernel of the Jupyter in /opt/remotedl.
set -eu
umask 0
kernel=/opt/remotedl/share/jupyter/kernels/malmo
mkdir -p "$kernel"
cat > "$kernel/kernel.json" <<'EOF'
{
  "argv": ["/opt/malmo/bin/python", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
  "display_name": "Malmo",
  "language": "python",
  "env": {"PATH": "/opt/malmo/bin:${PATH}"},
  "metadata": {"debugger": true}
}
EOF

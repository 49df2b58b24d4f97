#!/bin/sh
# Makes /opt/tensorflow a kernel of the Jupyter in /opt/remotedl, and `tf-python` a command.
set -eu
umask 0
kernel=/opt/remotedl/share/jupyter/kernels/tensorflow
mkdir -p "$kernel"
cat > "$kernel/kernel.json" <<'EOF'
{
  "argv": ["/opt/tensorflow/bin/python", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
  "display_name": "TensorFlow",
  "language": "python",
  "env": {"KERAS_BACKEND": "tensorflow", "PATH": "/opt/tensorflow/bin:${PATH}"},
  "metadata": {"debugger": true}
}
EOF
cat > /opt/remotedl/bin/tf-python <<'EOF'
#!/bin/sh
KERAS_BACKEND=tensorflow exec /opt/tensorflow/bin/python "$@"
EOF
chmod 755 /opt/remotedl/bin/tf-python

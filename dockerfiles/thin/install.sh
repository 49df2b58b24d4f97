#!/bin/sh
# Makes /opt/remotedl in an image that may be anything: with a Python or without, Debian or not.
set -eu
# The container runs as the SSH user's number, which is not known here.
umask 0

recipe=/opt/remotedl/recipe
own=$(command -v python3 || command -v python || true)

fail() {
    echo "remotedl: $1" >&2
    exit 1
}

# Whether this Python can make a virtual environment that today's JupyterLab runs in.
fit() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

install_python() {
    if command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update
        apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
        rm -rf /var/lib/apt/lists/*
    elif command -v apk >/dev/null; then
        # psutil and debugpy have no wheels for every musl machine.
        apk add --no-cache python3 py3-pip gcc musl-dev linux-headers python3-dev
    elif command -v dnf >/dev/null; then
        dnf install -y python3 python3-pip && dnf clean all
    elif command -v microdnf >/dev/null; then
        microdnf install -y python3 python3-pip && microdnf clean all
    elif command -v yum >/dev/null; then
        yum install -y python3 python3-pip && yum clean all
    elif command -v zypper >/dev/null; then
        zypper --non-interactive install python3 python3-pip
    elif command -v pacman >/dev/null; then
        pacman -Sy --noconfirm python python-pip
    else
        fail "the image has no Python 3.9 or newer and no package manager to get one with"
    fi
}

python=
for candidate in "$own" /usr/bin/python3 /usr/local/bin/python3; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && fit "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    install_python
    for candidate in /usr/bin/python3 /usr/local/bin/python3; do
        if [ -x "$candidate" ] && fit "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "the image's packages bring no Python that is new enough (3.9)"

# The image's own variables (PYTHONHOME, PYTHONPATH) are about its own Python.
unset PYTHONHOME PYTHONPATH
"$python" -m venv /opt/remotedl
/opt/remotedl/bin/python -m pip install --upgrade pip
/opt/remotedl/bin/python -m pip install -r "$recipe/requirements.txt"
/bin/sh "$recipe/jupyter/install.sh"

# The kernel is the image's own Python, with its own packages before ours: ipykernel and what it
# needs lie in a folder that is looked into last.
if [ -n "$own" ] && "$own" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    if ! "$own" -c 'import ipykernel' 2>/dev/null; then
        /opt/remotedl/bin/python -m pip --python "$own" install --target /opt/remotedl/own ipykernel
    fi
    cp "$recipe/own_kernel.py" /opt/remotedl/etc/own_kernel.py
    cat > /opt/remotedl/share/jupyter/kernels/python3/kernel.json <<EOF
{
  "argv": ["$own", "-Xfrozen_modules=off", "/opt/remotedl/etc/own_kernel.py", "-f", "{connection_file}"],
  "display_name": "Python 3 (of the image)",
  "language": "python",
  "metadata": {"debugger": true}
}
EOF
fi

mkdir -p /workspace /data
chmod 1777 /workspace /data

#!/bin/sh
# Puts the files beside this one where the Jupyter of /opt/remotedl looks for them.
set -eu
umask 0
here=$(dirname "$0")
packages=$(/opt/remotedl/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
etc=/opt/remotedl/etc/jupyter
mkdir -p "$etc/jupyter_server_config.d" "$etc/labconfig"
cp "$here/page_config.json" "$etc/labconfig/"
# Without jupyter_server_documents (a Python older than it wants) there is nothing to mend.
if /opt/remotedl/bin/python -c 'import jupyter_server_documents' 2>/dev/null; then
    cp "$here"/remotedl_*.py "$packages/"
    cp "$here/remotedl_jupyter.json" "$etc/jupyter_server_config.d/"
    notice=/opt/remotedl/share/jupyter/labextensions/remotedl-notice
    mkdir -p "$notice/static"
    cp "$here/notice.json" "$notice/package.json"
    cp "$here/notice.js" "$notice/static/"
fi

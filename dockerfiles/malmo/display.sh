#!/bin/sh
# The parts of the virtual display, each run by the session's supervisor: display.sh PART
set -eu
case $1 in
    screen)
        # -nolisten tcp: only programs of this container draw on it.
        exec Xvfb :1 -screen 0 1024x768x24 -nolisten tcp +extension GLX
        ;;
    windows)
        exec openbox
        ;;
    vnc)
        # Only this container connects; the browser comes through the page below.
        exec x11vnc -display :1 -localhost -rfbport 5900 -forever -shared -nopw -quiet
        ;;
    page)
        # The container's own loopback: remotedl's door leads here, and its gate asks who it is.
        exec websockify --web /usr/share/novnc 127.0.0.1:6080 127.0.0.1:5900
        ;;
    *)
        echo "display.sh screen | windows | vnc | page" >&2
        exit 2
        ;;
esac

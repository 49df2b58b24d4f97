# shellcheck shell=bash
# The shortcuts of the fast.ai image that people came from, for interactive shells.
#
# There they linked the data into the course's folder and started Jupyter on port 8888. Here
# Jupyter runs already, so they make the link and tell where it is.

link_course_data() {
    # courses/dl1 is the 2018 course; its notebooks look for their data right beside them.
    local course
    for course in /code/courses/dl1 /code/fastai/courses/dl1; do
        if [ -d "$course" ] && [ ! -e "$course/data" ]; then
            ln -s /data "$course/data" && echo "$course/data is /data now"
        fi
    done
}

jupyter_notebook_GPU_0_PORT_8888() {
    link_course_data
    export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
    echo "Jupyter runs already. On the laptop: remotedl open"
    jupyter server list 2>/dev/null | sed -n 's/?token=[^ ]*//; s/^http/  http/p'
}

alias j8=jupyter_notebook_GPU_0_PORT_8888

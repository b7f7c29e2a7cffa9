/* Stands for a video device that takes pictures: preloaded, so that libc's calls on one path come here. What was asked is
   read with the kernel's own structures, and told on standard error; pictures go into the file $V4L2_PICTURES. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int device = -1;

static int opened(const char *path) {
  if (strcmp(path, "/dev/video97")) return -1;
  int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  return device = real(getenv("V4L2_PICTURES"), O_RDWR | O_CREAT | O_TRUNC, 0600);
}

#define OPEN(name)                                                                     \
  int name(const char *path, int flags, ...) {                                         \
    int file = opened(path);                                                           \
    if (file >= 0) return file;                                                        \
    va_list more;                                                                      \
    va_start(more, flags);                                                             \
    int mode = va_arg(more, int);                                                      \
    va_end(more);                                                                      \
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                     \
    return real(path, flags, mode);                                                    \
  }
OPEN(open)
OPEN(open64)

int ioctl(int file, unsigned long request, ...) {
  va_list more;
  va_start(more, request);
  void *what = va_arg(more, void *);
  va_end(more);
  if (file != device || file < 0) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(file, request, what);
  }
  if ((unsigned)request == VIDIOC_QUERYCAP) {
    struct v4l2_capability *told = what;
    told->capabilities = V4L2_CAP_DEVICE_CAPS;
    told->device_caps = atoi(getenv("V4L2_IS_CAMERA")) ? V4L2_CAP_VIDEO_CAPTURE : V4L2_CAP_VIDEO_OUTPUT;
    return 0;
  }
  if ((unsigned)request == VIDIOC_S_FMT) {
    struct v4l2_format *wanted = what;
    struct v4l2_pix_format *pix = &wanted->fmt.pix;
    fprintf(stderr, "type=%d %ux%u %.4s field=%d line=%u size=%u colorspace=%d\n",
            wanted->type == V4L2_BUF_TYPE_VIDEO_OUTPUT, pix->width, pix->height, (char *)&pix->pixelformat,
            pix->field == V4L2_FIELD_NONE, pix->bytesperline, pix->sizeimage,
            pix->colorspace == V4L2_COLORSPACE_SMPTE170M);
    if (atoi(getenv("V4L2_KEEPS"))) pix->width = atoi(getenv("V4L2_KEEPS"));
    return 0;
  }
  return -1;
}

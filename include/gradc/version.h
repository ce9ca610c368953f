/* The version of gradc; the build reads it from here. */
#ifndef GRADC_VERSION_H
#define GRADC_VERSION_H

#define GRADC_VERSION_MAJOR 0
#define GRADC_VERSION_MINOR 1
#define GRADC_VERSION_PATCH 0
#define GRADC_VERSION "0.1.0"
/* As one number, to compare with gradc_version_number(). */
#define GRADC_VERSION_NUMBER (GRADC_VERSION_MAJOR * 10000 + GRADC_VERSION_MINOR * 100 + GRADC_VERSION_PATCH)

#endif

# The libraries Penstock builds on; each is named once, as an imported target.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
# libunistring and Random123 ship no pkg-config file.
find_path(UNISTRING_INCLUDE_DIR unicase.h REQUIRED)
find_library(UNISTRING_LIBRARY unistring REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)

# The thread sanitizer does not know libgomp's barriers, so its builds leave OpenMP out.
option(PS_OPENMP "Let the cpu backend use several threads" ON)
if(PS_OPENMP)
	find_package(OpenMP REQUIRED COMPONENTS C)
endif()

# The libraries Penstock builds on; each is named once, as an imported target.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
# Everything below is left out or has its stand-in in bare/; OpenMP is used where the compiler has it.
option(PS_BARE "Build with nothing but a C compiler: for scripts/gpu-check on a bare machine" OFF)
option(PS_ONEDNN "Use oneDNN for the cpu backend's GEMM" ON)
option(PS_OPENMP "Let the cpu backend use several threads" ON)
set(PS_OPENCL AUTO CACHE STRING "The opencl backend: AUTO, ON or OFF")
set_property(CACHE PS_OPENCL PROPERTY STRINGS AUTO ON OFF)
set(PS_OPENCL_FOUND FALSE)
if(PS_BARE)
	set(PS_ONEDNN OFF)
	if(PS_OPENMP)
		find_package(OpenMP COMPONENTS C)
		set(PS_OPENMP ${OpenMP_C_FOUND})
	endif()
	add_subdirectory(bare)
	return()
endif()

find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
# libcrypto for checksums.
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto>=3.0)
# libunistring and Random123 ship no pkg-config file.
find_path(UNISTRING_INCLUDE_DIR unicase.h REQUIRED)
find_library(UNISTRING_LIBRARY unistring REQUIRED)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)

# The cpu backend's GEMM; without it the backend uses a blocked loop of its own. Found by its files, because Debian's
# dnnl-config.cmake asks for the OpenCL headers, which its C API does not need.
if(PS_ONEDNN)
	find_path(DNNL_INCLUDE_DIR dnnl.h REQUIRED)
	find_library(DNNL_LIBRARY dnnl REQUIRED)
	add_library(DNNL::dnnl UNKNOWN IMPORTED)
	set_target_properties(DNNL::dnnl PROPERTIES
		IMPORTED_LOCATION "${DNNL_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${DNNL_INCLUDE_DIR}")
endif()
# The thread sanitizer does not know libgomp's barriers, so its builds leave OpenMP (and oneDNN, which uses it) out.
if(PS_OPENMP)
	find_package(OpenMP REQUIRED COMPONENTS C)
endif()

# The opencl backend, a module of its own: the ICD loader and CLBlast. AUTO builds it where both are here.
if(NOT PS_OPENCL STREQUAL "OFF")
	set(opencl_required "")
	if(PS_OPENCL STREQUAL "ON")
		set(opencl_required REQUIRED)
	endif()
	pkg_check_modules(OPENCL ${opencl_required} IMPORTED_TARGET OpenCL)
	pkg_check_modules(CLBLAST ${opencl_required} IMPORTED_TARGET clblast)
	if(OPENCL_FOUND AND CLBLAST_FOUND)
		set(PS_OPENCL_FOUND TRUE)
	else()
		message(STATUS "No OpenCL or no CLBlast: building without the opencl backend")
	endif()
endif()

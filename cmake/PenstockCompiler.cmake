# The language level and the warnings that all targets of the project share.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set_property(GLOBAL PROPERTY USE_FOLDERS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
	set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()

# PS_SANITIZE is a comma-separated list for -fsanitize.
set(PS_SANITIZE "" CACHE STRING "Sanitizers to build with: address,undefined or thread")
option(PS_WERROR "Treat warnings as errors" OFF)

# Start values and references are the same bits from every compiler: no fused multiply-add unless a target asks for it.
add_compile_options($<$<COMPILE_LANGUAGE:C>:-ffp-contract=off>)

add_library(penstock_warnings INTERFACE)
target_compile_definitions(penstock_warnings INTERFACE _POSIX_C_SOURCE=200809L)
set(warnings -Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2)
target_compile_options(penstock_warnings INTERFACE
	"$<$<COMPILE_LANGUAGE:C,CXX>:${warnings};-Wpedantic>"
	"$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes>"
	"$<$<C_COMPILER_ID:GNU>:$<$<COMPILE_LANGUAGE:C>:-Wno-format-truncation>>"
	"$<$<BOOL:${PS_WERROR}>:$<$<COMPILE_LANGUAGE:C,CXX>:-Werror>>"
	# nvcc hands the host's part of a file to the C++ compiler.
	"$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra$<$<BOOL:${PS_WERROR}>:,-Werror>>"
	"$<$<BOOL:${PS_WERROR}>:$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>>")
if(PS_SANITIZE)
	add_compile_options(
		"$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${PS_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
	add_link_options(-fsanitize=${PS_SANITIZE})
endif()

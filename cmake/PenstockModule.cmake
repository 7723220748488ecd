# penstock_add_backend(NAME SOURCES file… [LIBRARIES target…] [INCLUDES folder…] [FOR_TESTS])
#
# One loadable backend: the module penstock-NAME.so, installed to LIBDIR/penstock. In the build folder it lies in
# lib/penstock, so that beside libpenstock there is a folder `penstock` with the modules in both places. It links
# the shared library, hence one core for program and modules, and nothing links it: the registry opens it by path.
# The target is called penstock-NAME. FOR_TESTS keeps it out of the installation and in CMAKE_CURRENT_BINARY_DIR/modules,
# for PENSTOCK_BACKEND_PATH to name.
function(penstock_add_backend name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "FOR_TESTS" "" "SOURCES;LIBRARIES;INCLUDES")
	if(NOT arg_SOURCES OR arg_UNPARSED_ARGUMENTS)
		message(FATAL_ERROR "penstock_add_backend(${name} SOURCES file… [LIBRARIES …] [INCLUDES …] [FOR_TESTS]): "
			"no sources, or not understood: '${arg_UNPARSED_ARGUMENTS}'")
	endif()
	set(target penstock-${name})
	add_library(${target} MODULE ${arg_SOURCES})
	target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}")
	target_include_directories(${target} SYSTEM PRIVATE ${arg_INCLUDES})
	target_link_libraries(${target} PRIVATE penstock penstock_warnings ${arg_LIBRARIES})
	# A symbol that neither the core nor a named library has is an error now, not when a user opens the device.
	# Sanitizers leave theirs to the program.
	if(NOT PS_SANITIZE)
		target_link_options(${target} PRIVATE LINKER:--no-undefined)
	endif()
	set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".so" INSTALL_RPATH "$ORIGIN/..")
	if(arg_FOR_TESTS)
		set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/modules")
		return()
	endif()
	set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib/penstock")
	install(TARGETS ${target} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/penstock")
	set_property(GLOBAL APPEND PROPERTY PS_BACKEND_MODULES ${target})
endfunction()

# What `cmake --install` puts where: the library and its headers, the program, the backend modules, the manual
# page and completions, and what find_package() and pkg-config need to use an installed copy.
include(CMakePackageConfigHelpers)

# An installed program finds the library beside itself, so that any prefix works, moved ones too.
file(RELATIVE_PATH from_bin_to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_BINDIR}")
	set(program_rpath "${CMAKE_INSTALL_FULL_LIBDIR}")
else()
	set(program_rpath "$ORIGIN/${from_bin_to_lib}")
endif()

install(TARGETS penstock EXPORT penstock-targets
	LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${CMAKE_SOURCE_DIR}/include/penstock" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
	FILES_MATCHING PATTERN "*.h" PATTERN "*.def")

# The programs are the executables of tools/. `runtime` is all that a run needs: scripts/train builds that alone.
add_custom_target(runtime DEPENDS penstock)
get_property(tool_targets DIRECTORY "${CMAKE_SOURCE_DIR}/tools/penstock" PROPERTY BUILDSYSTEM_TARGETS)
foreach(target IN LISTS tool_targets)
	get_target_property(type ${target} TYPE)
	if(type STREQUAL "EXECUTABLE")
		set_target_properties(${target} PROPERTIES INSTALL_RPATH "${program_rpath}")
		install(TARGETS ${target} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
		add_dependencies(runtime ${target})
	endif()
endforeach()
get_property(backend_modules GLOBAL PROPERTY PS_BACKEND_MODULES)
if(backend_modules)
	add_dependencies(runtime ${backend_modules})
endif()

install(FILES "${CMAKE_SOURCE_DIR}/docs/man/penstock.1" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
install(FILES "${CMAKE_SOURCE_DIR}/completions/penstock.bash" RENAME penstock
	DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(FILES "${CMAKE_SOURCE_DIR}/completions/_penstock" DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
install(FILES "${CMAKE_SOURCE_DIR}/completions/penstock.fish"
	DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
install(FILES "${CMAKE_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/penstock")
install(EXPORT penstock-targets NAMESPACE penstock:: DESTINATION "${package_dir}")
configure_package_config_file(cmake/penstock-config.cmake.in "${CMAKE_BINARY_DIR}/penstock-config.cmake"
	INSTALL_DESTINATION "${package_dir}")
# Before 1.0 a minor version may break its users.
write_basic_package_version_file("${CMAKE_BINARY_DIR}/penstock-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/penstock-config.cmake" "${CMAKE_BINARY_DIR}/penstock-config-version.cmake"
	DESTINATION "${package_dir}")

# penstock.pc names its prefix relative to itself where the library folder allows it.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
	set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
	set(pc_libdir "${CMAKE_INSTALL_FULL_LIBDIR}")
	set(pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
	file(RELATIVE_PATH pc_up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
	string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
	set(pc_prefix "\${pcfiledir}/${pc_up}")
	set(pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
	set(pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/penstock.pc.in "${CMAKE_BINARY_DIR}/penstock.pc" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/penstock.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

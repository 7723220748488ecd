# cmake -DOUTPUT=header -DNAME=name -DFILES=a;b;c -P embed.cmake: the files' text as one string constant, written byte
# by byte, so that no compiler's limit on literals and no character of theirs matters.
set(bytes "")
foreach(file IN LISTS FILES)
	file(READ "${file}" hex HEX)
	string(APPEND bytes "${hex}")
endforeach()
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE "${OUTPUT}" "static const char ${NAME}[] = {${bytes}0};\n")

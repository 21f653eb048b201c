# Flags and the three helpers every folder uses. One library target a folder; what a target
# links is what it may include (tests/layering checks the same rule on the text).

option(TANDEM_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(TANDEM_TSAN "ThreadSanitizer" OFF)

option(TANDEM_PCH "Precompiled standard headers: for builds that are made to be tested, not shipped" OFF)

find_program(CCACHE ccache)
if(CCACHE)
  # It takes a precompiled header only when told that macros in there may differ.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

add_library(tandem_flags INTERFACE)
target_compile_options(tandem_flags INTERFACE
  $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-Wall -Wextra -Werror -fno-omit-frame-pointer>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(tandem_flags INTERFACE -Wthread-safety)
endif()
target_include_directories(tandem_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
# Sanitizers go on everything that is linked together; single files may opt out of UBSan.
if(TANDEM_ASAN)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
endif()
if(TANDEM_TSAN)
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK)  # g++ TSan cannot see fences
endif()

# Tests are many and hardly work: they are compiled fast. Their precompiled headers are in every
# build of gcc; those of what ships only where TANDEM_PCH says so, for in the release build no file
# may get away with a header it does not include.
set(standard_headers <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <deque>
    <functional> <limits> <map> <memory> <mutex> <optional> <random> <set> <span> <string>
    <string_view> <thread> <unordered_map> <utility> <variant> <vector>)
set(test_options $<IF:$<CONFIG:Release>,-O1,-O0>)
if(NOT EXISTS ${CMAKE_BINARY_DIR}/pch/pch.cc)
  file(WRITE ${CMAKE_BINARY_DIR}/pch/pch.cc "")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND test_options -fpch-preprocess)  # for ccache
  add_library(tandem_test_pch OBJECT ${CMAKE_BINARY_DIR}/pch/pch.cc)
  target_link_libraries(tandem_test_pch PRIVATE tandem_flags GTest::gtest GTest::gmock)
  target_compile_options(tandem_test_pch PRIVATE ${test_options})
  target_precompile_headers(tandem_test_pch PRIVATE ${standard_headers} <gmock/gmock.h> <gtest/gtest.h>)
endif()
if(TANDEM_PCH)
  add_compile_options(-fpch-preprocess)
  add_library(tandem_pch OBJECT ${CMAKE_BINARY_DIR}/pch/pch.cc)
  target_link_libraries(tandem_pch PRIVATE tandem_flags)
  target_precompile_headers(tandem_pch PRIVATE ${standard_headers})
endif()

# tandem_library(NAME HEADERS a.h SOURCES a.cc DEPS public... PRIVATE_DEPS ...)
# makes tandem_NAME with the alias tandem::NAME. A header that its .cc includes first is known to
# compile alone; the others are the set that all_verify_interface_header_sets compiles.
function(tandem_library name)
  cmake_parse_arguments(A "" "" "HEADERS;SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(A_SOURCES)
    add_library(tandem_${name} STATIC ${A_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(tandem_${name} PUBLIC tandem_flags ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS})
  else()
    add_library(tandem_${name} INTERFACE)
    set(scope INTERFACE)
    target_link_libraries(tandem_${name} INTERFACE tandem_flags ${A_DEPS})
  endif()
  if(TANDEM_PCH AND A_SOURCES)
    target_precompile_headers(tandem_${name} REUSE_FROM tandem_pch)
  endif()
  set(alone)
  foreach(header IN LISTS A_HEADERS)
    string(REGEX REPLACE "\\.h$" ".cc" source ${header})
    if(NOT source IN_LIST A_SOURCES)
      list(APPEND alone ${header})
    endif()
  endforeach()
  if(alone)
    target_sources(tandem_${name} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}
                                           FILES ${alone})
  endif()
  add_library(tandem::${name} ALIAS tandem_${name})
endfunction()

# tandem_executable(NAME SOURCES main.cc DEPS ...)
function(tandem_executable name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_flags ${A_DEPS})
endfunction()

# For files that read a command line and wire a program together: CLI11 takes most of their compile
# time, and more of it the better they are optimized.
function(tandem_compile_fast)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "-O0;$<$<BOOL:${TANDEM_ASAN}>:-fno-sanitize=undefined>")
endfunction()

# tandem_test(NAME SOURCES a_test.cc DEPS ... [LABELS concurrent] [ARGS ...] [TSAN_ARGS ...] [HEAVY])
# One ctest entry per program. LABELS concurrent: also run under the tsan preset, with TSAN_ARGS.
# HEAVY: the test's own loops take longer than to compile them well.
function(tandem_test name)
  cmake_parse_arguments(A "HEAVY" "TIMEOUT" "SOURCES;DEPS;LABELS;ARGS;TSAN_ARGS" ${ARGN})
  if(TANDEM_TSAN)
    list(APPEND A_ARGS ${A_TSAN_ARGS})
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_flags ${A_DEPS} GTest::gtest GTest::gmock
                                        GTest::gtest_main)
  if(A_HEAVY)
    target_compile_options(${name} PRIVATE -O2)
  else()
    target_compile_options(${name} PRIVATE ${test_options})
  endif()
  if(TARGET tandem_test_pch AND NOT A_HEAVY)
    target_precompile_headers(${name} REUSE_FROM tandem_test_pch)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} ${A_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
endfunction()

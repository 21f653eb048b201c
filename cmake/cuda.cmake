# CUDA. The same .cu files are compiled twice: by nvcc for GPUs (TANDEM_NVCC), and by the host's
# compiler for the emulation that tests run on (tests/cuda_emulation). Host code is compiled once,
# against the real headers, and linked with the one or the other. Targets, made in kernels/cuda:
#   tandem::cuda_headers           the toolkit's headers, for host code
#   tandem::kernels_cuda_host      host parts of kernels/cuda
#   tandem::kernels_cuda           kernels by nvcc, CUDA runtime, cuBLASLt, NCCL; with TANDEM_NVCC
#   tandem::kernels_cuda_emulated  kernels by the host's compiler on tandem::cuda_emulation
include(cmake/find_nvcc.cmake)

# A toolkit without NCCL does not stop those who serve on CPUs.
if(NOT TANDEM_CUDA_MISSING)
  get_filename_component(toolkit ${TANDEM_CUDA_COMPILER} REALPATH)
  get_filename_component(toolkit ${toolkit}/../.. ABSOLUTE)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${toolkit}/include)
  find_library(NCCL_LIBRARY nccl HINTS ${toolkit}/lib64 ${toolkit}/lib)
  if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
    set(TANDEM_CUDA_MISSING "there is no NCCL beside ${TANDEM_CUDA_COMPILER} (packages libnccl2, libnccl-dev)")
  endif()
endif()

if(TANDEM_CUDA_MISSING)
  set(found OFF)
else()
  set(found ON)
endif()
option(TANDEM_CUDA "The GPU worker; by default where nvcc is found" ${found})
option(TANDEM_NVCC "With TANDEM_CUDA: device code for GPUs, not only for the emulation" ON)

if(NOT TANDEM_CUDA)
  if(TANDEM_CUDA_MISSING)
    message(STATUS "TANDEM_CUDA is off: ${TANDEM_CUDA_MISSING}")
  endif()
  set(TANDEM_NVCC OFF)
  return()
endif()
if(TANDEM_CUDA_MISSING)
  message(FATAL_ERROR "TANDEM_CUDA is on, but ${TANDEM_CUDA_MISSING}")
endif()

set(CUDAToolkit_NVCC_EXECUTABLE ${TANDEM_CUDA_COMPILER})
find_package(CUDAToolkit ${TANDEM_NVCC_WANTED} REQUIRED)

add_library(tandem_cuda_headers INTERFACE)
target_include_directories(tandem_cuda_headers SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS}
                                                                ${NCCL_INCLUDE_DIR})
add_library(tandem::cuda_headers ALIAS tandem_cuda_headers)

if(TANDEM_NVCC)
  # What ptxas says of registers goes to OBJECT.ptxas (bench/kernels/ptxas_report reads it).
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/keep_ptxas.sh ${CCACHE})
  set(CMAKE_CUDA_COMPILER ${TANDEM_CUDA_COMPILER})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)  # the last one also as PTX, for later ones
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 has no word for it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
endif()

# tandem_cuda_kernels(NAME a.cu... DEPS host targets...)
# makes tandem::NAME and tandem::NAME_emulated. Spills and local memory are errors: they are not
# seen where there is no GPU to be slow.
function(tandem_cuda_kernels name)
  cmake_parse_arguments(A "" "" "DEPS" ${ARGN})
  if(TANDEM_NVCC)
    add_library(tandem_${name} STATIC ${A_UNPARSED_ARGUMENTS})
    target_include_directories(tandem_${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_compile_options(tandem_${name} PRIVATE
      --expt-relaxed-constexpr
      --no-compress  # bench/kernels/ptxas_report reads the PTX
      -Xptxas=-v,-warn-spills,-warn-lmem-usage -Werror=all-warnings
      -Xcompiler=-Wall,-Wextra,-fno-omit-frame-pointer,-g1)
    target_link_libraries(tandem_${name} PUBLIC ${A_DEPS} CUDA::cudart CUDA::cublasLt
                                                ${NCCL_LIBRARY})
    add_library(tandem::${name} ALIAS tandem_${name})
  endif()

  set(twins)
  foreach(source IN LISTS A_UNPARSED_ARGUMENTS)
    set(twin ${CMAKE_CURRENT_BINARY_DIR}/${source}.cc)
    file(CONFIGURE OUTPUT ${twin} CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n")
    list(APPEND twins ${twin})
  endforeach()
  set(prelude ${PROJECT_SOURCE_DIR}/tests/cuda_emulation/device_prelude.h)
  add_library(tandem_${name}_emulated STATIC EXCLUDE_FROM_ALL ${twins})
  target_link_libraries(tandem_${name}_emulated PUBLIC tandem_flags tandem_cuda_headers ${A_DEPS}
                        $<TARGET_NAME_IF_EXISTS:tandem::cuda_emulation>)
  # unknown pragmas: #pragma unroll
  target_compile_options(tandem_${name}_emulated PRIVATE -include ${prelude} -Wno-unknown-pragmas)
  add_library(tandem::${name}_emulated ALIAS tandem_${name}_emulated)
endfunction()

# tandem_cuda_test(NAME SOURCES a_test.cc [DEPS ...] [TSAN_FILTER pattern] [TIMEOUT s])
# A test of device code, on the emulation: in release with threads in order, in reverse and in a
# random order (a ctest entry each: NAME, NAME_reverse, NAME_random), in dev and tsan in another
# random one. tsan runs the cases of TSAN_FILTER (a GoogleTest pattern), if given. The sources also
# become part of gpu_selftest, so they use device memory through the CUDA runtime alone.
function(tandem_cuda_test name)
  cmake_parse_arguments(A "" "TSAN_FILTER;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  set(filter)
  if(TANDEM_TSAN AND A_TSAN_FILTER)
    set(filter --gtest_filter=${A_TSAN_FILTER})
  endif()
  tandem_test(${name} SOURCES ${A_SOURCES} DEPS ${A_DEPS} tandem::kernels_cuda_emulated
              LABELS concurrent ARGS ${filter} TIMEOUT ${A_TIMEOUT})
  if(TANDEM_ASAN OR TANDEM_TSAN)
    set_tests_properties(${name} PROPERTIES
                         ENVIRONMENT "TANDEM_EMULATION=policy=random,seed=1,streams=deferred")
  else()
    set_tests_properties(${name} PROPERTIES
                         ENVIRONMENT "TANDEM_EMULATION=policy=in_order,streams=deferred")
    foreach(order reverse random)
      string(REGEX REPLACE "^random$" "random,cp_async=random,seed=2" policy ${order})
      add_test(NAME ${name}_${order} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
      set_tests_properties(${name}_${order} PROPERTIES TIMEOUT ${A_TIMEOUT}
        ENVIRONMENT "TANDEM_EMULATION=policy=${policy},streams=deferred")
    endforeach()
  endif()
  list(TRANSFORM A_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  set_property(GLOBAL APPEND PROPERTY TANDEM_GPU_SELFTEST_SOURCES ${A_SOURCES})
  set_property(GLOBAL APPEND PROPERTY TANDEM_GPU_SELFTEST_DEPS ${A_DEPS})
endfunction()

# gpu_selftest: the same tests on a GPU. Called once, when all tests are known.
function(tandem_gpu_selftest main)
  if(NOT TANDEM_NVCC)
    return()
  endif()
  get_property(sources GLOBAL PROPERTY TANDEM_GPU_SELFTEST_SOURCES)
  get_property(deps GLOBAL PROPERTY TANDEM_GPU_SELFTEST_DEPS)
  tandem_executable(gpu_selftest SOURCES ${main} ${sources}
                    DEPS ${deps} tandem::kernels_cuda GTest::gtest GTest::gmock)
endfunction()

# Sets TANDEM_CUDA_COMPILER to an nvcc of TANDEM_NVCC_WANTED or later, or to "" and
# TANDEM_CUDA_MISSING to the reason in one line. As a script (cmake -P) prints the one or the other.
set(TANDEM_NVCC_WANTED 12.9)
set(TANDEM_CUDA_MISSING "")
find_program(TANDEM_CUDA_COMPILER nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin
             PATHS /usr/local/cuda/bin)
if(TANDEM_CUDA_COMPILER)
  execute_process(COMMAND ${TANDEM_CUDA_COMPILER} --version OUTPUT_VARIABLE version)
  if(NOT version MATCHES "release ([0-9.]+)")
    set(TANDEM_CUDA_MISSING "${TANDEM_CUDA_COMPILER} --version names no release")
  elseif(CMAKE_MATCH_1 VERSION_LESS TANDEM_NVCC_WANTED)
    set(TANDEM_CUDA_MISSING
        "${TANDEM_CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}; ${TANDEM_NVCC_WANTED} or later is needed")
  endif()
else()
  set(TANDEM_CUDA_MISSING "no nvcc in PATH, CUDA_HOME or /usr/local/cuda; CUDA ${TANDEM_NVCC_WANTED} or later is needed")
endif()
if(CMAKE_SCRIPT_MODE_FILE)
  if(TANDEM_CUDA_MISSING)
    message(NOTICE "${TANDEM_CUDA_MISSING}")
  else()
    message(NOTICE "${TANDEM_CUDA_COMPILER}")
  endif()
endif()

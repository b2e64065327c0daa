#!/bin/sh
# Builds src/sound/speex.wasm from the source of libspeex 1.2.1 (BSD), for example Debian's
# speex_1.2.1.orig.tar.gz, unpacked. It needs Debian's clang-14, lld-14, wasi-libc and
# libclang-rt-14-dev-wasm32.
#
#   tools/speex/build.sh FOLDER
set -eu
speex=$1
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../src/sound
include=$(mktemp -d)
trap 'rm -r "$include"' EXIT
mkdir "$include/speex"
cp "$speex"/include/speex/*.h "$include/speex"
cat > "$include/speex/speex_config_types.h" <<'H'
#include <stdint.h>
typedef int16_t spx_int16_t;
typedef uint16_t spx_uint16_t;
typedef int32_t spx_int32_t;
typedef uint32_t spx_uint32_t;
H
files=
for name in bits cb_search exc_10_16_table exc_10_32_table exc_20_32_table exc_5_256_table \
    exc_5_64_table exc_8_128_table filters gain_table gain_table_lbr hexc_10_32_table hexc_table \
    high_lsp_tables lpc lsp lsp_tables_nb ltp modes modes_wb nb_celp quant_lsp sb_celp speex \
    speex_callbacks stereo vbr vq window; do
  files="$files $speex/libspeex/$name.c"
done
# shellcheck disable=SC2086
clang-14 --target=wasm32-wasi -Os -flto -w -mexec-model=reactor -DFLOATING_POINT -DUSE_ALLOCA \
  -DOS_SUPPORT_CUSTOM -DEXPORT= \
  -I"$here" -I"$include" -I"$speex/libspeex" \
  -Wl,--strip-all -Wl,-z,stack-size=65536 \
  -o "$out/speex.wasm" "$here/speex.c" $files
cp "$speex/COPYING" "$out/speex.LICENSE"

// Speex for the page: libspeex behind a few functions and two buffers. One sound is decoded at a
// time, and one encoded, not both at once.
#include <speex/speex.h>

static SpeexBits bits;
static void *decoder;
static char packet[2048];
static spx_int16_t samples[640];

// begin prepares for a new sound. mode is 0 narrowband, 1 wideband, 2 ultra-wideband. It
// returns the samples of a frame, or 0 for another mode.
__attribute__((export_name("begin"))) int begin(int mode) {
  int size = 0, enhance = 1;
  if (decoder) {
    speex_decoder_destroy(decoder);
    speex_bits_destroy(&bits);
    decoder = 0;
  }
  if (mode < 0 || mode > 2) return 0;
  decoder = speex_decoder_init(speex_lib_get_mode(mode));
  if (!decoder) return 0;
  speex_bits_init(&bits);
  speex_decoder_ctl(decoder, SPEEX_SET_ENH, &enhance);
  speex_decoder_ctl(decoder, SPEEX_GET_FRAME_SIZE, &size);
  return size <= 640 ? size : 0;
}

// packet_buffer returns where the page writes a packet of up to 2048 bytes.
__attribute__((export_name("packet"))) char *packet_buffer(void) { return packet; }

// sample_buffer returns where decode writes a frame of samples.
__attribute__((export_name("samples"))) spx_int16_t *sample_buffer(void) { return samples; }

// read takes the bytes of a packet.
__attribute__((export_name("read"))) void read_packet(int size) {
  if (decoder && size >= 0 && size <= (int)sizeof packet)
    speex_bits_read_from(&bits, packet, size);
}

// decode decodes the next frame of the packet. It returns 0, or less when there is none.
__attribute__((export_name("decode"))) int decode(void) {
  return decoder ? speex_decode_int(decoder, &bits, samples) : -2;
}

static SpeexBits out;
static void *encoder;

// record prepares for a new narrowband sound. It returns the samples of a frame.
__attribute__((export_name("record"))) int record(int quality) {
  int size = 0, complexity = 3;
  if (encoder) {
    speex_encoder_destroy(encoder);
    speex_bits_destroy(&out);
  }
  encoder = speex_encoder_init(speex_lib_get_mode(SPEEX_MODEID_NB));
  if (!encoder) return 0;
  speex_bits_init(&out);
  speex_encoder_ctl(encoder, SPEEX_SET_QUALITY, &quality);
  speex_encoder_ctl(encoder, SPEEX_SET_COMPLEXITY, &complexity);
  speex_encoder_ctl(encoder, SPEEX_GET_FRAME_SIZE, &size);
  return size <= 640 ? size : 0;
}

// encode encodes the frame in the buffer of samples. It returns the bytes of the packet, which
// lies in the buffer of packets.
__attribute__((export_name("encode"))) int encode(void) {
  if (!encoder) return 0;
  speex_bits_reset(&out);
  speex_encode_int(encoder, samples, &out);
  return speex_bits_write(&out, packet, sizeof packet);
}

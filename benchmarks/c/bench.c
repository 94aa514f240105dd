/* The yardstick: one connection, one channel, on librabbitmq.
 *
 *   bench publish|consume HOST PORT USER PASSWORD VHOST QUEUE COUNT SIZE WINDOW WARM_UP ACK_EVERY
 *
 * publish: persistent, mandatory, WINDOW messages without a confirm. The clock runs from the first publish after WARM_UP
 * messages to the last confirm. consume: prefetch WINDOW, one ack for ACK_EVERY messages; from the first to the last
 * message. Prints one line of JSON, like the Python clients.
 */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct moment { double wall, cpu; long idle, total; };

static struct moment began, ended;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(int status, const char *what) {
  if (status != AMQP_STATUS_OK) fail(what, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  fail(what, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? amqp_error_string2(reply.library_error) : "refused");
}

static struct moment now(void) {
  struct moment m = {0, 0, 0, 0};
  struct timespec t;
  struct rusage r;
  long f[8] = {0};
  clock_gettime(CLOCK_MONOTONIC, &t);
  m.wall = t.tv_sec + t.tv_nsec * 1e-9;
  getrusage(RUSAGE_SELF, &r);
  m.cpu = r.ru_utime.tv_sec + r.ru_stime.tv_sec + 1e-6 * (r.ru_utime.tv_usec + r.ru_stime.tv_usec);
  FILE *stat = fopen("/proc/stat", "r");
  if (stat) {
    if (fscanf(stat, "cpu %ld %ld %ld %ld %ld %ld %ld %ld", f, f + 1, f + 2, f + 3, f + 4, f + 5, f + 6, f + 7) == 8)
      for (int i = 0; i < 8; i++) m.total += f[i];
    m.idle = f[3] + f[4];
    fclose(stat);
  }
  return m;
}

static void report(void) {
  long ticks = ended.total - began.total;
  printf("{\"began\": %.6f, \"ended\": %.6f, \"elapsed\": %.6f, \"cpu\": %.6f, \"idle\": %.3f, \"delays\": []}\n",
         began.wall, ended.wall, ended.wall - began.wall, ended.cpu - began.cpu,
         ticks > 0 ? (ended.idle - began.idle) / (double)ticks : 0.0);
}

/* Takes in one frame that the broker sent to a publisher: a confirm, or the end. */
static void confirmed(const amqp_frame_t *frame, uint64_t *done) {
  if (frame->frame_type != AMQP_FRAME_METHOD) return;
  if (frame->payload.method.id != AMQP_BASIC_ACK_METHOD) fail("publish", "the broker refused or returned a message");
  const amqp_basic_ack_t *ack = frame->payload.method.decoded;
  /* One queue confirms in order, so everything up to the tag of an ack with `multiple` is confirmed now. */
  *done = ack->multiple ? ack->delivery_tag : *done + 1;
}

static void publish(amqp_connection_state_t c, const char *queue, uint64_t count, size_t size, uint64_t window,
                    uint64_t warm_up) {
  struct timeval at_once = {0, 0};
  amqp_basic_properties_t properties;
  memset(&properties, 0, sizeof properties);
  properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.delivery_mode = 2;
  char *text = malloc(size);
  memset(text, 'x', size);
  amqp_bytes_t body = {size, text}, key = amqp_cstring_bytes(queue);
  amqp_confirm_select(c, 1);
  check_reply(amqp_get_rpc_reply(c), "confirm.select");
  uint64_t sent = 0, done = 0, goal = warm_up;
  for (int phase = 0; phase < 2; phase++, goal += count) {
    began = now();
    while (done < goal) {
      amqp_frame_t frame;
      while (sent < goal && sent - done < window) {
        check(amqp_basic_publish(c, 1, amqp_empty_bytes, key, 1, 0, &properties, body), "publish");
        sent++;
      }
      check(amqp_simple_wait_frame(c, &frame), "confirms");
      confirmed(&frame, &done);
      while (amqp_frames_enqueued(c) || amqp_data_in_buffer(c)) {
        if (amqp_simple_wait_frame_noblock(c, &frame, &at_once) != AMQP_STATUS_OK) break;
        confirmed(&frame, &done);
      }
      amqp_maybe_release_buffers(c);
    }
    ended = now();
  }
  free(text);
}

static void consume(amqp_connection_state_t c, const char *queue, uint64_t count, uint16_t window, uint64_t ack_every) {
  amqp_basic_qos(c, 1, 0, window, 0);
  check_reply(amqp_get_rpc_reply(c), "basic.qos");
  amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check_reply(amqp_get_rpc_reply(c), "basic.consume");
  for (uint64_t seen = 1; seen <= count; seen++) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(c);
    check_reply(amqp_consume_message(c, &envelope, NULL, 0), "deliveries");
    if (seen == 1) began = now();
    if (seen == count) ended = now();
    if (seen % ack_every == 0 || seen == count)
      check(amqp_basic_ack(c, 1, envelope.delivery_tag, ack_every > 1), "basic.ack");
    amqp_destroy_envelope(&envelope);
  }
}

int main(int argc, char **argv) {
  if (argc != 13) fail("bench", "takes 12 arguments, see the top of bench.c");
  const char *host = argv[2], *user = argv[4], *password = argv[5], *vhost = argv[6], *queue = argv[7];
  uint64_t count = strtoull(argv[8], NULL, 10), size = strtoull(argv[9], NULL, 10), window = strtoull(argv[10], NULL, 10);
  uint64_t warm_up = strtoull(argv[11], NULL, 10), ack_every = strtoull(argv[12], NULL, 10);
  int one = 1;
  amqp_connection_state_t c = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(c);
  check(amqp_socket_open(socket, host, atoi(argv[3])), "connect");
  setsockopt(amqp_get_sockfd(c), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  check_reply(amqp_login(c, vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, user, password), "login");
  amqp_channel_open(c, 1);
  check_reply(amqp_get_rpc_reply(c), "channel.open");
  if (strcmp(argv[1], "publish") == 0)
    publish(c, queue, count, size, window, warm_up);
  else
    consume(c, queue, count, (uint16_t)window, ack_every);
  usleep(300000); /* the last acks reach a quorum queue a moment after they were sent */
  amqp_channel_close(c, 1, AMQP_REPLY_SUCCESS);
  amqp_connection_close(c, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(c);
  report();
  return 0;
}

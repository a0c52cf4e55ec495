# frozen_string_literal: true

# A Puma of five threads with a busy thread beside it, and a client in a process of its own that sends one small request
# after the other. Prints one line of JSON a round: the times of the requests with the turnstile off, and on.

require "json"
require "socket"
require "puma"
require "puma/server"
require "swarm_native/turnstile"

seconds, rounds = Float(ARGV[0]), Integer(ARGV[1])

app = ->(_env) { [200, { "content-type" => "text/plain" }, ["hello"]] }
server = Puma::Server.new(app, nil, min_threads: 5, max_threads: 5, log_writer: Puma::LogWriter.null)
port = server.add_tcp_listener("127.0.0.1", 0).addr[1]
server.run
busy = Thread.new { loop { 100.times { |number| number * number } } }

CLIENT = <<~'RUBY'
  require "json"
  require "socket"
  port, seconds = Integer(ARGV[0]), Float(ARGV[1])
  now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
  times = []
  over = now.call + seconds
  while now.call < over
    started = now.call
    TCPSocket.open("127.0.0.1", port) do |socket|
      socket.write("GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
      raise "no answer" unless socket.read.end_with?("hello")
    end
    times << now.call - started
  end
  times.sort!
  puts JSON.generate(p50: times[times.size / 2], p99: times[((times.size - 1) * 0.99).round], count: times.size)
RUBY

ask = -> { JSON.parse(IO.popen([RbConfig.ruby, "-e", CLIENT, port.to_s, seconds.to_s], &:read)) }
rounds.times do
  off = ask.call
  SwarmNative::Turnstile.enable
  abort SwarmNative::Turnstile.explain unless SwarmNative::Turnstile.mode == :all
  on = ask.call
  SwarmNative::Turnstile.disable
  puts JSON.generate(off: off, on: on)
  $stdout.flush
end
busy.kill
exit!(0)

# frozen_string_literal: true

# alive? and signal against the system calls made from Rust, the same calls by FFI, and Process.kill.

require "ffi"
require "swarm_native"
require_relative "support"

# A pidfd as one writes it with the ffi gem.
class FfiPidfd
  extend FFI::Library
  ffi_lib FFI::Library::LIBC
  attach_function :pidfd_open, :syscall, %i[long int uint], :long
  attach_function :pidfd_send_signal, :syscall, %i[long int int pointer uint], :long
  attach_function :poll, %i[pointer ulong int], :int

  SIGNALS = Signal.list.freeze

  # struct pollfd
  class PollFd < FFI::Struct
    layout :fd, :int, :events, :short, :revents, :short
  end

  def initialize(pid)
    @fd = self.class.pidfd_open(434, pid, 0)
    @poll = PollFd.new
    @poll[:fd] = @fd
    @poll[:events] = 1
  end

  def alive?
    self.class.poll(@poll, 1, 0).zero?
  end

  def signal(name)
    self.class.pidfd_send_signal(424, @fd, SIGNALS.fetch(name), nil, 0).zero?
  end
end

CALLS = 1_000

# Nanoseconds a call, without those of the loop around it.
def self.loop_of(code)
  instance_eval(<<~RUBY, __FILE__, __LINE__ - 1)
    # frozen_string_literal: true

    lambda do |ours, ffi, pid|
      started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
      i = 0
      while i < CALLS
        #{code}
        i += 1
      end
      (Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - started).fdiv(CALLS)
    end
  RUBY
end

empty = loop_of("")
calls = {
  "alive?" => { "ours" => loop_of("ours.alive?"), "raw poll(2) in Rust" => "poll",
                "ffi" => loop_of("ffi.alive?"), "Process.kill(0)" => loop_of("Process.kill(0, pid)") },
  "signal" => { "ours" => loop_of('ours.signal("CONT")'), "raw pidfd_send_signal(2) in Rust" => "signal",
                "ffi" => loop_of('ffi.signal("CONT")'), "Process.kill" => loop_of('Process.kill("CONT", pid)') }
}
pid = Process.spawn("sleep", "600")
raw = IO.popen([Bench.cargo_example("pidfd_syscalls"), pid.to_s], "r+")
ours = SwarmNative::Pidfd.new(pid)
ffi = FfiPidfd.new(pid)
begin
  calls.each do |name, ways|
    samples = ways.transform_values { [] }
    Bench.times(2_000, 5).times do
      ways.each do |way, call|
        samples[way] <<
          if call.is_a?(String)
            raw.puts("#{call} #{CALLS}")
            raw.gets.to_f
          else
            call.call(ours, ffi, pid) - empty.call(ours, ffi, pid)
          end
      end
    end
    Bench.report_samples("pidfd #{name}", "ns", samples.delete("ours"), samples, { 50 => { ratio_goal: 1.3 } })
  end
ensure
  raw.close
  ours.signal("KILL")
  ours.cleanup
end

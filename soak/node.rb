# frozen_string_literal: true

# The swarm under strikes: its nodes write down, batch by batch, what they have consumed. Started by Soak::Fleet, in a
# folder of its own.

require "fiddle"
require "swarm_native"
require_relative "record"

# glibc keeps what is free for the thread that had it. Other C libraries have no such call.
TRIM = begin
  Fiddle::Function.new(Fiddle::Handle::DEFAULT["malloc_trim"], [Fiddle::TYPE_SIZE_T], Fiddle::TYPE_INT)
rescue Fiddle::DLError
  ->(_) {}
end

SwarmNative.logger = nil
servers, topic, nodes, protocol = ARGV
group = protocol == "consumer" ? { "group.protocol": "consumer" } : { "session.timeout.ms": 6000 }
processor = SwarmNative::Kafka::Processor.new(
  config: { "bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest", **group },
  topics: topic, concurrency: Soak::CONCURRENCY, max_batch: Soak::MAX_BATCH, max_wait: 0.05, shutdown_timeout: 15
)

events = File.open("events", "a")
tell = ->(line) { events.syswrite("#{line}\n") }
swarm = SwarmNative::Supervisor.new(nodes: Integer(nodes), ready: :manual, report_interval: 0.2, report_timeout: 4,
                                    boot_timeout: 30, shutdown_timeout: 25, stable_after: 0, backoff_max: 1,
                                    crash_loop_limit: 1_000_000)
swarm.on(:node_exited) { |event| tell.call("exited #{event.reason}") }
swarm.on(:error) { |event| tell.call("error #{event.message.to_s.lines.first&.chomp}") }

swarm.run do |node|
  record = Soak::Record.new("consumed.#{node.id}.#{Process.pid}.#{Soak.now_ms}")
  processor.on(:error) do |event|
    # Brokers go away here.
    tell.call("error #{event.reason}") unless event.error.respond_to?(:retriable?) && event.error.retriable?
  end
  # Memory is about to be compared.
  trap("USR2") do
    Thread.new do
      GC.start
      TRIM.call(0)
      File.write("trimmed.#{Process.pid}", "")
    end
  end
  processor.run(node) { |batch| record.batch(batch.payloads) }
  record.finish
end

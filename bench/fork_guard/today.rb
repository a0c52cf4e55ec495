# frozen_string_literal: true

# What a forked child does today with a handle that it inherits, without the guard: for each binding, each kind of handle
# and each thing that a child may do with it.
#
#   GEM_PATH=tmp/test-gems/...: ruby bench/fork_guard/today.rb [CHILDREN]
#
# Each case runs in a process that loads the binding alone. The figures in docs/fork_safety.md come from here.

require "swarm_native"

CHILDREN = Integer(ARGV.fetch(0, "15"))
PATIENCE = 5

CASES = {
  producer: {
    "produce, close" => 'h.produce(topic: "t", payload: "x"); h.close',
    "produce, wait 2 s" => 'wait_2_s(h.produce(topic: "t", payload: "x"))',
    "produce, flush 1 s, exit" => 'h.produce(topic: "t", payload: "x"); raise(Timeout::Error) unless h.flush(1000)',
    "close" => "h.close",
    "GC of it, exit" => "h = nil; $h.clear; GC.start",
    "exit" => ""
  },
  consumer: {
    "poll 100 ms" => "h.poll(100)",
    "close" => "h.close",
    "GC of it, exit" => "h = nil; $h.clear; GC.start",
    "exit" => ""
  },
  admin: {
    "describe a topic, wait 2 s" => 'h.metadata("t", 2000)',
    "close" => "h.close",
    "GC of it, exit" => "h = nil; $h.clear; GC.start",
    "exit" => ""
  }
}.freeze

PARENT = <<~'RUBY'
  gem ENV.fetch("BINDING")
  require "rdkafka"
  require "timeout"
  def wait_2_s(delivery)
    delivery.wait(max_wait_timeout_ms: 2000)
  rescue ArgumentError # before 0.23
    delivery.wait(max_wait_timeout: 2)
  end
  config = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("BROKER"), "group.id": "g", "log_level": 0)
  $h = [config.public_send(ENV.fetch("KIND"))]
  case ENV.fetch("KIND")
  when "producer" then $h[0].produce(topic: "t", payload: "x").wait
  when "consumer" then $h[0].subscribe("t"); $h[0].poll(500)
  end
  children = Integer(ENV.fetch("CHILDREN"))
  children.times do
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      $stderr.reopen(File::NULL)
      writer.sync = true
      begin
        h = $h[0]
        result = eval(ENV.fetch("ACTION"))
        writer.puts "done"
      rescue Exception => e
        writer.puts e.class.name
      end
    end
    writer.close
    due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + Integer(ENV.fetch("PATIENCE"))
    ended = nil
    until (ended = Process.wait2(pid, Process::WNOHANG)) || Process.clock_gettime(Process::CLOCK_MONOTONIC) > due
      sleep 0.005
    end
    unless ended
      Process.kill(:KILL, pid)
      Process.wait(pid)
    end
    said = reader.read.strip
    puts(if ended.nil? then "hangs#{said.empty? ? '' : " at exit after #{said}"}"
         elsif ended[1].signaled? then "crashes by signal #{ended[1].termsig}"
         else "#{said.empty? ? 'ended' : said}, exit #{ended[1].exitstatus}"
         end)
    $stdout.flush
  end
  Process.exit!(0)
RUBY

LAST_OFFSET = <<~'RUBY'
  gem ENV.fetch("BINDING")
  require "rdkafka"
  config = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("BROKER"), "group.id": "g2", "log_level": 0)
  puts config.consumer.query_watermark_offsets("t", 0).last
  $stdout.flush
  Process.exit!(0)
RUBY

def last_offset(env)
  IO.popen(env, [RbConfig.ruby, "-e", LAST_OFFSET], &:read).to_i
end

def versions(binding)
  Gem::Specification.select { |spec| spec.name == binding }.map(&:version).max
end

SwarmNative::Kafka::EmbeddedBroker.start(topics: { "t" => 1 }) do |broker|
  %w[karafka-rdkafka rdkafka].each do |binding|
    CASES.each do |kind, actions|
      actions.each do |title, action|
        env = { "BINDING" => binding, "BROKER" => broker.bootstrap_servers, "KIND" => kind.to_s, "ACTION" => action,
                "CHILDREN" => CHILDREN.to_s, "PATIENCE" => PATIENCE.to_s, "RUBYOPT" => nil }
        before = last_offset(env)
        out = IO.popen(env, [RbConfig.ruby, "-e", PARENT], err: File::NULL, &:read)
        tally = out.lines(chomp: true).tally.map { |what, count| "#{count} x #{what}" }.join(", ")
        if title.start_with?("produce")
          arrived = last_offset(env) - before - 1 # one is the parent's
          tally += "; #{arrived} of #{CHILDREN} messages arrived"
        end
        puts "#{binding} #{versions(binding)} | #{kind} | #{title} | #{tally}"
      end
    end
  end
end

# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's hand-overs", :karafka, :kafka, :test_gems do
  # On newer Rubies the turnstile sees all waits.
  NEEDED = RUBY_VERSION < "3.3"

  # What a process that consumes has for queues, and which of the binding's calls give the GVL away for each batch.
  LOOK = <<~'RUBY'
    $blocking = []
    Rdkafka::Bindings.singleton_class.prepend(Module.new do
      %i[rd_kafka_offsets_store rd_kafka_assignment_lost rd_kafka_poll].each do |name|
        define_method(name) do |*arguments|
          $blocking |= [name] if name != :rd_kafka_poll || arguments.last.zero?
          super(*arguments)
        end
      end
    end)
    queues = proc do
      jobs = Karafka::Server.jobs_queue
      [jobs.instance_variable_get(:@queue), *jobs.instance_variable_get(:@semaphores).values].map(&:class).uniq
    end
    Karafka.monitor.subscribe("app.stopping") { say "queues", *queues.call }
    Karafka.monitor.subscribe("app.terminated") { say "blocking", *$blocking.sort }
  RUBY

  # Consumes as many messages as are there, and stops.
  def consume(topic, count, setup: LOOK, version: KarafkaApp::VERSIONS.last, **more)
    result = run_karafka(setup, version: version, topic: topic, command: "server", **more) do |app|
      wait_until(KarafkaApp::PATIENCE, "#{count} messages") { app.lines("consumed").size >= count }
      app.signal("TERM")
    end
    expect(result.err).to eq("")
    expect(result.status.exitstatus).to eq(0)
    expect(result.out).not_to include("error.occurred")
    result.out
  end

  KarafkaApp::VERSIONS.each do |version|
    it "ask for the GVL, or keep it, where the VM tells of no waits, and offsets are stored (Karafka #{version})" do
      topic = new_topic(partitions: 2)
      group = { "APP_GROUP" => "group-#{rand(1 << 40)}" }
      produce(topic, 20)
      out = consume(topic, 20, version: version, env: group)
      queues = out[/^queues (.*)$/, 1].split
      expect(queues.all? { |name| name == "SwarmNative::Turnstile::Queue" }).to be NEEDED
      expect(out[/^blocking ?(.*)$/, 1].split).to eq([]) if NEEDED
      produce(topic, 3)
      # What was marked is not consumed again.
      expect(consume(topic, 3, setup: "", version: version, env: group).scan(/^consumed /).size).to eq(3)
    end
  end

  it "are Karafka's own where they are switched off" do
    topic = new_topic(partitions: 2)
    produce(topic, 2)
    out = consume(topic, 2, setup: "#{LOOK}\nSwarmNative::Karafka.setup { |config| config.fast_hand_over = false }")
    expect(out[/^queues (.*)$/, 1]).not_to include("SwarmNative")
    expect(out[/^blocking (.*)$/, 1].split).to include("rd_kafka_offsets_store") if NEEDED
  end
end

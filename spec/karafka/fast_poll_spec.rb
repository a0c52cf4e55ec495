# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's polling", :karafka, :kafka, :test_gems do
  # How often the GVL was given away to poll until 600 waiting messages were consumed, at most 100 of them a batch.
  def waits(fast_poll, version)
    topic = new_topic(partitions: 2)
    produce(topic, 600)
    setup = <<~RUBY
      SwarmNative::Karafka.setup { |config| config.fast_poll = #{fast_poll} }
      $waits = 0
      [[Rdkafka::Bindings, :rd_kafka_consumer_poll], [SwarmNative::Turnstile, :native_wait]].each do |owner, name|
        next unless owner.respond_to?(name, true)

        owner.singleton_class.prepend(Module.new do
          define_method(name) do |*arguments|
            $waits += 1
            super(*arguments)
          end
        end)
      end
      $consumed = 0
      class Consumer
        def consume
          $consumed += messages.size
          say("all", $consumed, $waits) if $consumed >= 600
        end
      end
    RUBY
    result = run_karafka(setup, version: version, topic: topic, command: "server") do |app|
      app.wait_for(/^all/)
      app.signal("TERM")
    end
    expect(result.status.exitstatus).to eq(0)
    result.out[/^all 600 (\d+)$/, 1].to_i
  end

  KarafkaApp::VERSIONS.each do |version|
    it "takes what librdkafka holds without giving the GVL away (Karafka #{version})" do
      expect(waits(true, version)).to be < 300
    end

    it "tells of the ends of partitions (Karafka #{version})" do
      topic = new_topic(partitions: 2)
      setup = <<~RUBY
        class Consumer
          def eofed = say("eofed", messages.metadata.partition)
        end
        App.routes.clear
        App.routes.draw do
          topic(ENV.fetch("APP_TOPIC")) do
            consumer Consumer
            eofed true
            kafka(**App.config.kafka, "enable.partition.eof": true)
          end
        end
      RUBY
      result = run_karafka(setup, version: version, topic: topic) do |app|
        wait_until(KarafkaApp::PATIENCE, "both ends") { app.lines("eofed").uniq.size == 2 }
        produce(topic, 4)
        wait_until(KarafkaApp::PATIENCE, "all messages") { app.lines("consumed").uniq.size == 4 }
        app.signal("TERM")
      end
      expect(result.out).not_to include("error.occurred")
      expect(result.status.exitstatus).to eq(0)
    end
  end

  # What follows stands for all versions: what they make of a poll is shown above and with errors, the rest is the gem's own.
  it "polls as the binding does when it is switched off" do
    expect(waits(false, KarafkaApp::VERSIONS.last)).to be >= 600
  end

  # A consumer that always holds a message, and a client.
  def polling(code)
    run_ruby(<<~RUBY, env: test_gems_env, deadline: KarafkaApp::PATIENCE)
      gem "karafka", "= #{KarafkaApp::VERSIONS.last}"
      require "karafka"
      require "swarm_native/karafka"
      Fake = Struct.new(:held, :revoked_partitions) do
        def rebalance_manager = self
        def closed? = false
      end
      poll = lambda do |held, revoked: {}|
        fake = Fake.new(held, revoked)
        SwarmNative::Karafka::FastPoll.new(fake, fake).tap do |made|
          made.instance_variable_set(:@waits, false)
          made.define_singleton_method(:held, &held)
        end
      end
      #{code}
    RUBY
  end

  it "gives the GVL away after so many messages, and after so much of the processor" do
    result = polling(<<~RUBY)
      polled = poll.call(-> { :held })
      limit = SwarmNative::Karafka::FastPoll::COUNT
      given_away = 0
      (limit + 1).times { polled.call(100) { given_away += 1 } }
      p given_away.between?(1, limit / 20)

      now = -> { Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) }
      slow = poll.call(-> { due = now.call + 0.0021; nil until now.call > due; :held })
      given_away = 0
      10.times { slow.call(100) { given_away += 1 } }
      p given_away
    RUBY
    expect(result.out).to eq("true\n5\n")
  end

  it "waits when nothing is held, but not when partitions were taken away just then" do
    result = polling(<<~RUBY)
      p poll.call(-> {}).call(70) { :waited }
      p poll.call(-> {}, revoked: { "topic" => [0] }).call(70) { :waited }
    RUBY
    expect(result.out).to eq(":waited\nnil\n")
  end

  it "raises what a callback raises, in a poll that waits too" do
    result = run_ruby(<<~RUBY, env: { "SERVERS" => bootstrap_servers, **test_gems_env }, deadline: KarafkaApp::PATIENCE)
      gem "karafka", "= #{KarafkaApp::VERSIONS.last}"
      require "karafka"
      require "swarm_native/karafka"
      told = Class.new(Exception)
      Rdkafka::Config.statistics_callback = ->(_) { raise told, "told" }
      consumer = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("SERVERS"), "group.id": "g",
                                     "statistics.interval.ms": 300).consumer
      Client = Struct.new(:revoked_partitions) { def rebalance_manager = self }
      SwarmNative::Karafka::FastPoll.serve(consumer, Client.new({}))
      raised = 0
      6.times do
        consumer.poll(1000)
      rescue told
        raised += 1
      end
      p raised >= 3
      Rdkafka::Config.statistics_callback = nil
      consumer.close
    RUBY
    expect(result.out).to eq("true\n"), result.inspect
  end

  it "begins to poll for messages as soon as a listener's first wait for events has something to end for" do
    result = run_ruby(<<~RUBY, env: { "SERVERS" => bootstrap_servers, "TOPIC" => new_topic, **test_gems_env }, deadline: KarafkaApp::PATIENCE)
      gem "karafka", "= #{KarafkaApp::VERSIONS.last}"
      require "karafka"
      require "swarm_native/karafka"
      config = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("SERVERS"), "group.id": "g", "session.timeout.ms": 1500)
      config.consumer_poll_set = false
      consumer = config.consumer
      timed = lambda do |seconds|
        from = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        SwarmNative::Karafka::FirstPoll.wait(consumer, seconds)
        Process.clock_gettime(Process::CLOCK_MONOTONIC) - from
      end
      p timed.call(0.2).between?(0.2, 10)
      consumer.subscribe(ENV.fetch("TOPIC"))
      p timed.call(80) < 40
      consumer.poll(100) until consumer.assignment.to_h.any?
      consumer.close
    RUBY
    expect(result.out).to eq("true\ntrue\n")
    expect(result.status.exitstatus).to eq(0)
  end
end

# frozen_string_literal: true

require "support/karafka_app"

# The binding by itself, the drop-in where librdkafka holds the error already, and where it is waited for.
POLL_MODES = %i[binding held waited].freeze

# Consumers that meet all kinds of error that a poll raises, polled in one of the modes.
POLL_ERRORS = <<~'RUBY'
  $stdout.sync = true
  gem "karafka", "= #{ENV.fetch("APP_KARAFKA")}"
  require "karafka"
  require "swarm_native/karafka"

  mode, servers, = ARGV
  topics = ARGV.drop(2)
  Client = Struct.new(:revoked_partitions) { def rebalance_manager = self }
  FastPoll = SwarmNative::Karafka::FastPoll
  FastPoll.send(:remove_const, :COUNT)
  FastPoll::COUNT = mode == "held" ? 500 : 0

  consume = lambda do |topic, **more|
    config = Rdkafka::Config.new("bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest",
                                 "session.timeout.ms": 1000, "heartbeat.interval.ms": 100, **more)
    config.consumer_poll_set = false
    consumer = config.consumer
    FastPoll.serve(consumer, Client.new({})) unless mode == "binding"
    consumer.subscribe(topic)
    consumer
  end
  inner = ->(consumer, &block) { consumer.instance_variable_get(:@native_kafka).with_inner(&block) }
  function = lambda do |result, name, *types|
    FFI::Function.new(result, types, Rdkafka::Bindings.ffi_libraries.first.find_function(name))
  end
  queue = function.call(:pointer, "rd_kafka_queue_get_consumer", :pointer)
  length = function.call(:size_t, "rd_kafka_queue_length", :pointer)
  destroy = function.call(:void, "rd_kafka_queue_destroy", :pointer)
  make_fatal = function.call(:int, "rd_kafka_test_fatal_error", :pointer, :int, :string)

  something = lambda do |consumer|
    inner.call(consumer) do |it|
      found = queue.call(it)
      length.call(found).positive?.tap { destroy.call(found) }
    end
  end

  # Polls only when there is something, so that it is held, and the time between polls can run out.
  error = lambda do |consumer|
    loop do
      wait_until(30, "something to poll") { something.call(consumer) }
      consumer.poll(100)
    end
  rescue Rdkafka::RdkafkaError => e
    # How late it was differs.
    text = e.message.gsub(/by \d+ms/, "by so long")
    puts [e.class, e.code, text, e.details, e.fatal?, e.retryable?].inspect
  end
  closed = lambda do |consumer|
    consumer.close
    begin
      consumer.poll(100)
    rescue Rdkafka::ClosedConsumerError => e
      puts [e.class, e.message].inspect
    end
  end

  consumer = consume.call(topics[0], "enable.partition.eof": true)
  error.call(consumer)
  closed.call(consumer)
  { topics[1] => { "auto.offset.reset": "error" }, topics[2] => { "allow.auto.create.topics": false }, topics[3] => {},
    topics[4] => { "max.poll.interval.ms": 1000 } }.each do |topic, settings|
    consumer = consume.call(topic, **settings)
    error.call(consumer)
    consumer.close
  end
  consumer = consume.call(topics[5])
  inner.call(consumer) { |it| make_fatal.call(it, 82, "made up") }
  error.call(consumer)
  # One that has failed for good may not be closed in time.
  exit!(0)
RUBY

KarafkaApp::VERSIONS.each do |version|
  RSpec.describe "errors while the drop-in polls, Karafka #{version}", :kafka, :test_gems, karafka: version do
    # The topics of an example: four that are there, one that is not, one that nobody may read.
    def topics
      forbidden = new_topic
      KafkaBroker.shared.fail_topic(forbidden, 29)
      [new_topic, new_topic, "never-made-#{rand(1 << 40)}", forbidden, new_topic, new_topic]
    end

    # All versions for one Ruby have the same binding.
    it "raises what the binding raises, in the same words", if: version == KarafkaApp::VERSIONS.last do
      env = { "APP_KARAFKA" => version, **test_gems_env }
      told = POLL_MODES.to_h { |mode| [mode, topics] }.map do |mode, names|
        Thread.new do
          args = [mode.to_s, bootstrap_servers, *names]
          result = run_ruby(POLL_ERRORS, args: args, env: env, deadline: KarafkaApp::PATIENCE)
          expect(result.status.exitstatus).to eq(0), result.inspect
          [mode, names.each_with_index.reduce(result.out) { |text, (name, number)| text.gsub(name, "topic #{number}") }]
        end
      end
      told = told.to_h(&:value)
      expect(told[:binding].lines.size).to eq(7)
      expect(told[:binding]).to match(/partition_eof.*Closed.*auto_offset_reset.*unknown_topic_or_part.*
                                       topic_authorization_failed.*max_poll_exceeded.*fatal/mxi)
      expect(told[:held]).to eq(told[:binding])
      expect(told[:waited]).to eq(told[:binding])
    end

    # What an application hears of a topic that it may not read at first, and then may.
    def forbidden_at_first(fast_poll)
      topic = new_topic(partitions: 2)
      produce(topic, 2)
      KafkaBroker.shared.fail_topic(topic, 29)
      setup = "SwarmNative::Karafka.setup { |config| config.fast_poll = #{fast_poll} }"
      settings = { "topic.metadata.refresh.interval.ms": 200 }
      result = run_karafka(setup, topic: topic, kafka: settings, command: "server") do |app|
        app.wait_for(/^error\.occurred /)
        KafkaBroker.shared.fail_topic(topic, 0)
        wait_until(KarafkaApp::PATIENCE, "both messages") { app.lines("consumed").uniq.size == 2 }
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
      result.out.scan(/^error\.occurred \d+ (.*)$/).flatten.map { |line| line.gsub(topic, "the topic") }.uniq
    end

    it "has Karafka tell of them and try again as before" do
      told = forbidden_at_first(false)
      forbidden = /\Aconnection\.client\.poll\.error,.*topic_authorization_failed/
      expect(told).to contain_exactly(a_string_matching(forbidden))
      expect(forbidden_at_first(true)).to eq(told)
    end
  end
end

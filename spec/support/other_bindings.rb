# frozen_string_literal: true

require_relative "kafka_broker"

# Runs code in a process that has the guard and one of the other Ruby bindings of librdkafka, against the embedded broker.
#
# In the code, `open(kind)` makes a handle of the kind (:producer, :consumer, :admin or, with karafka-rdkafka, :waterdrop)
# that has been in touch with the broker, and `refusal { }` gives the ForkRefused that the block raised.
module OtherBindings
  NAMES = %w[karafka-rdkafka rdkafka].freeze

  KINDS = {
    "karafka-rdkafka" => %i[producer consumer admin waterdrop],
    "rdkafka" => %i[producer consumer admin]
  }.freeze

  PRELUDE = <<~'RUBY'
    gem ENV.fetch("BINDING")
    require "rdkafka"
    require "waterdrop" if ENV["BINDING"] == "karafka-rdkafka"
    require "logger"
    Rdkafka::Config.logger = Logger.new(File::NULL)
    SwarmNative::ForkGuard.remember_places

    KINDS = ENV.fetch("KINDS").split(",").map(&:to_sym)
    TOPIC = ENV.fetch("TOPIC")

    def config
      Rdkafka::Config.new("bootstrap.servers": ENV.fetch("BROKER"), "group.id": "group-#{Process.pid}-#{rand(1 << 40)}")
    end

    def open(kind)
      case kind
      when :producer then config.producer.tap { |producer| producer.produce(topic: TOPIC, payload: "x").wait }
      when :consumer then config.consumer.tap { |consumer| consumer.subscribe(TOPIC); consumer.poll(10) }
      when :admin then config.admin
      when :waterdrop
        producer = WaterDrop::Producer.new do |settings|
          settings.kafka = { "bootstrap.servers": ENV.fetch("BROKER") }
          settings.id = "drop"
          settings.logger = Logger.new(File::NULL) if settings.respond_to?(:logger=)
        end
        producer.tap { producer.produce_sync(topic: TOPIC, payload: "x") }
      end
    end

    def refusal
      yield
      nil
    rescue SwarmNative::ForkRefused => e
      e
    end

    def fork_works
      Process.wait(fork { exit!(5) })
      $?.exitstatus == 5
    end
  RUBY

  # @return [RubyProcess::Result]
  def run_with(binding, code, deadline: 180, env: {}, **options)
    setting = { "BINDING" => binding, "KINDS" => KINDS.fetch(binding).join(","), "TOPIC" => new_topic,
                "BROKER" => bootstrap_servers }
    # One line, so that the lines of the code keep their numbers.
    prelude = "eval(#{PRELUDE.dump}, TOPLEVEL_BINDING, 'prelude')\n"
    run_ruby(prelude + code, deadline: deadline, env: { **test_gems_env, **setting, **env }, **options)
  end
end

RSpec.configure { |config| config.include OtherBindings, :other_bindings }

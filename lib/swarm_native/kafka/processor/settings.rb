# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # What a processor was told, checked as a whole.
      # @api private
      class Settings
        POSITIVE = ->(value) { value.is_a?(Numeric) && value.real? && value.to_f.finite? && value.positive? }
        FROM_ZERO = ->(value) { value.is_a?(Numeric) && value.real? && value.to_f.finite? && !value.negative? }
        COUNT = ->(value) { value.is_a?(Integer) && value.positive? }
        OR_NIL = ->(check) { ->(value) { value.nil? || check.call(value) } }
        private_constant :POSITIVE, :FROM_ZERO, :COUNT, :OR_NIL

        # name => default, what is allowed, and the check.
        KNOWN = {
          concurrency: [5, "an Integer from 1 to 1000", ->(value) { COUNT.call(value) && value <= 1000 }],
          max_batch: [100, "an Integer from 1 on", COUNT],
          max_wait: [1.0, "seconds from 0 on", FROM_ZERO],
          max_messages: [10_000, "an Integer from 1 on", COUNT],
          max_bytes: [64 * 1024 * 1024, "an Integer from 1 on", COUNT],
          backoff_min: [1.0, "seconds above 0", POSITIVE],
          backoff_max: [30.0, "seconds, backoff_min or more", POSITIVE],
          max_attempts: [nil, "an Integer from 1 on, or nil", OR_NIL.call(COUNT)],
          dead_letter: [nil, "a topic, something to call, or nil",
                        ->(value) { value.nil? || value.respond_to?(:call) || (value.is_a?(String) && !value.empty?) }],
          producer: [nil, "a Kafka::Producer, or nil", OR_NIL.call(->(value) { value.respond_to?(:produce) })],
          revoke_timeout: [10.0, "seconds from 0 on", FROM_ZERO],
          shutdown_timeout: [30.0, "seconds from 0 on", FROM_ZERO],
          polling_ttl: [300.0, "seconds above 0, or nil", OR_NIL.call(POSITIVE)],
          consuming_ttl: [300.0, "seconds above 0, or nil", OR_NIL.call(POSITIVE)]
        }.freeze

        # How many attempts a message has before it goes to the dead letters.
        ATTEMPTS = 5
        # What goes down with a process that is killed is what was done since the last commit.
        COMMIT_INTERVAL_MS = 250
        LAG_INTERVAL_MS = 10_000
        # The most that librdkafka allows.
        LARGEST_MESSAGE = 1_000_000_000

        attr_reader :config, :topics, *KNOWN.keys

        # @raise [ConfigurationError] lists every problem
        def initialize(config:, topics:, **settings)
          @problems = []
          unknown = settings.keys - KNOWN.keys
          @problems << "#{unknown.join(", ")}: no such setting; there are config, topics, #{KNOWN.keys.join(", ")}" if unknown.any?
          KNOWN.each do |name, (default, allowed, check)|
            value = settings.fetch(name, default)
            @problems << "#{name}: #{value.inspect} given, allowed: #{allowed}" unless check.call(value)
            instance_variable_set(:"@#{name}", value)
          end
          @topics = topics_of(topics)
          @config = config_of(config)
          check_together
          raise ConfigurationError, @problems.size == 1 ? @problems[0] : "#{@problems.size} problems:\n  #{@problems.join("\n  ")}" if @problems.any?

          @max_attempts ||= ATTEMPTS if dead_letter
          freeze
        end

        # @param lag [Boolean] whether somebody wants to hear of the lag
        def consumer_config(lag:)
          extra = lag ? { "statistics.interval.ms" => LAG_INTERVAL_MS } : {}
          { "auto.commit.interval.ms" => COMMIT_INTERVAL_MS, **extra, **config, "enable.auto.offset.store" => false }
        end

        # What of the consumer's configuration a producer to the same cluster needs. How large a message may be is for
        # the topic of the dead letters to say: one that was read could be sent once.
        def producer_config
          shared = /\A(bootstrap\.servers|metadata\.broker\.list|client\.|security\.|sasl\.|ssl\.|enable\.ssl|socket\.|
                    broker\.address|reconnect\.|debug|log_level|message\.max\.bytes)/x
          { "message.max.bytes" => LARGEST_MESSAGE, **config.select { |name, _| name.match?(shared) } }
        end

        private

        def topics_of(topics)
          topics = [topics].flatten
          named = topics.all? { |topic| topic.is_a?(String) && !topic.empty? }
          @problems << "topics: #{topics.inspect} given, allowed: one or more names, or patterns that begin with ^" unless named && topics.any?
          topics.map { |topic| topic.dup.freeze }.freeze
        end

        def config_of(config)
          return (@problems << "config: #{config.inspect} given, allowed: a Hash of librdkafka's properties") && {} unless config.is_a?(Hash)

          config = config.transform_keys(&:to_s)
          @problems << "config: group.id is missing" unless config.key?("group.id")
          { "enable.auto.offset.store" => "false", "enable.auto.commit" => "true" }.each do |name, needed|
            next if !config.key?(name) || config[name].to_s == needed

            @problems << "config: #{name} is #{config[name].inspect}, allowed: #{needed}, since the processor stores the " \
                         "offset of a message once it is done, and librdkafka commits it"
          end
          config.freeze
        end

        def check_together
          if FROM_ZERO.call(backoff_min) && FROM_ZERO.call(backoff_max) && backoff_max < backoff_min
            @problems << "backoff_max: #{backoff_max} given, allowed: backoff_min (#{backoff_min}) or more"
          end
          if (source = topics.find { |topic| covers?(topic, dead_letter) })
            @problems << "dead_letter: #{dead_letter.inspect} given, allowed: a topic that is not consumed here, or " \
                         "dead letters would come back without end; topics has #{source.inspect}"
          end
          return unless max_attempts && dead_letter.nil?

          @problems << "max_attempts: #{max_attempts} given, allowed only with a dead_letter: a message that is given up " \
                       "has to go somewhere"
        end

        def covers?(topic, name)
          return false unless topic.is_a?(String) && name.is_a?(String)

          topic == name || (topic.start_with?("^") && Regexp.new(topic).match?(name))
        rescue RegexpError
          false # librdkafka's expressions are not quite Ruby's
        end
      end
    end
  end
end

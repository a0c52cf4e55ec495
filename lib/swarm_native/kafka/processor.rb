# frozen_string_literal: true

require_relative "lazy"
require_relative "processor/settings"
require_relative "processor/event"
require_relative "processor/lag"
require_relative "processor/session"

module SwarmNative
  module Kafka
    # Consumes topics with worker threads, at least once: an offset is stored only when the block has returned.
    #
    # Each partition's batches come in order, one at a time; partitions go side by side. A block that raises has its
    # partition wait and begin again at the same offset. Polling goes on whatever the workers do.
    #
    # @example In the nodes of a swarm
    #   processor = SwarmNative::Kafka::Processor.new(
    #     config: { "bootstrap.servers": "127.0.0.1:9092", "group.id": "billing", "auto.offset.reset": "earliest" },
    #     topics: "orders", concurrency: 5, dead_letter: "orders.dead"
    #   )
    #   SwarmNative::Supervisor.new(nodes: 4).run do |node|
    #     processor.run(node) { |batch| bill(batch.payloads) }
    #   end
    #
    # @example By itself, until Ctrl-C
    #   trap("INT") { processor.stop }
    #   processor.each_message { |message| bill(message.payload) }
    class Processor
      # No handle is made before it runs, so it may be made in the process that forks.
      #
      # @param config [Hash] librdkafka's properties, as for {Consumer.new}; `group.id` is needed
      # @param topics [String, Array<String>] names, or patterns that begin with `^`
      # @param concurrency [Integer] worker threads
      # @param max_batch [Integer] the most messages of a batch
      # @param max_wait [Float] seconds that the first message of a batch waits for others, until the batch is full; 0
      #   hands out what is there
      # @param max_messages [Integer] how many messages wait for workers at most; partitions share this
      # @param max_bytes [Integer] how many bytes they have
      # @param backoff_min [Float] seconds until the second attempt; each further wait is twice as long
      # @param backoff_max [Float] seconds: the longest wait
      # @param max_attempts [Integer, nil] attempts before a message goes to the dead letters; 5 where there are some.
      #   The last attempt at a batch hands out its messages one by one, and only those go that fail by themselves
      # @param dead_letter [String, #call, nil] the topic, one that is not consumed, to which messages go that failed
      #   that often, or what is called with the message and the error. nil: they are tried again without end
      # @param producer [Producer, nil] what sends to that topic; nil makes one to the same cluster when it is needed
      # @param revoke_timeout [Float] seconds that the group waits for a job when it takes the partition. Then the job's
      #   result is dropped
      # @param shutdown_timeout [Float] seconds that jobs have to end, from the stop on. Less than the supervisor's
      # @param polling_ttl [Float, nil] seconds without a poll after which the node is unhealthy (code 1)
      # @param consuming_ttl [Float, nil] seconds in which a job has done nothing after which it is (code 2). A job gets
      #   on with each message of {#each_message}, and with {Batch#done}
      # @raise [ConfigurationError] lists every problem
      def initialize(config:, topics:, **settings)
        @settings = Settings.new(config: config, topics: topics, **settings)
        @listeners = Hash.new { |hash, name| hash[name] = [] }
        @quiet = false
        @stopped_at = @session = nil
      end

      # Calls the block for each such event. It runs on the thread where it happens: a worker, or the listener, which
      # does not poll meanwhile. Errors go to {SwarmNative.logger} too.
      #
      # @param names [Array<Symbol>] of {Event::NAMES}
      # @yieldparam event [Event]
      # @return [self]
      def on(*names, &block)
        raise ArgumentError, "on needs a block" unless block

        unknown = names - Event::NAMES
        unless unknown.empty? && names.any?
          raise ArgumentError, "#{unknown.map(&:inspect).join(", ")}: no such event, allowed: #{Event::NAMES.join(", ")}"
        end

        names.each { |name| @listeners[name] += [block] }
        self
      end

      # Consumes until it is told to stop.
      #
      # @param node [Node, nil] the node it works in: its signals are passed on, it is ready once the topics are
      #   subscribed to, and it is unhealthy when the work does not get on
      # @yieldparam batch [Batch] messages of one partition
      # @return [self] all jobs have ended, or had to be given up (an `:error` event says so)
      # @raise [Kafka::Error] `fatal?`: the consumer can no longer be used
      # @raise what the block raises that is no failure of its work, such as SystemExit
      def run(node = nil, &block)
        start(node, false, block)
      end

      # Consumes until it is told to stop, message by message: each is done, fails and is tried again by itself.
      #
      # @param node [Node, nil] as for {#run}
      # @yieldparam message [Message]
      # @return [self]
      # @raise (see #run)
      def each_message(node = nil, &block)
        start(node, true, block)
      end

      # Ends it: jobs that run may end, up to `shutdown_timeout`, their offsets are committed, and the group is left. What
      # no worker has begun comes again elsewhere. From any thread and from a trap handler.
      #
      # @return [self]
      def stop
        @stopped_at ||= Process.clock_gettime(Process::CLOCK_MONOTONIC)
        @session&.wake
        self
      end

      # Begins nothing more, and stays in the group: jobs that run may end, and are committed. From any thread and from a
      # trap handler.
      #
      # @return [self]
      def quiet
        @quiet = true
        @session&.wake
        self
      end

      # @return [Boolean]
      def stopping? = !@stopped_at.nil?

      # @return [Boolean]
      def quiet? = @quiet

      # @return [Boolean]
      def running? = !@session.nil?

      # @return [Array<String>] what the workers do just now, for a person
      def jobs = @session ? @session.jobs.map(&:to_s) : []

      # @api private
      # @return [Float, nil] when it was told to stop
      attr_reader :stopped_at

      # @api private
      def ending? = stopping? || @quiet

      # @api private
      def heard?(name) = @listeners.key?(name)

      # @api private
      def tell(event)
        log(event)
        @listeners.fetch(event.name, []).each do |listener|
          listener.call(event)
        rescue StandardError => e
          failed = Event.new(name: :error, error: e, reason: "listener")
          # A listener of errors that raises must not be told of its own error for ever.
          event.name == :error ? log(failed) : tell(failed)
        end
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{@settings.topics.join(", ")} as #{@settings.config["group.id"]}>"
      end

      private

      def start(node, single, block)
        raise ArgumentError, "a processor needs a block: the work" unless block
        raise SwarmNative::Error, "this processor runs already" if @session
        return self if stopping?

        begin
          @session = Session.new(@settings, self, node, single, block)
          @session.run
        ensure
          @session = nil
        end
        self
      ensure
        unless @session
          @quiet = false
          @stopped_at = nil
        end
      end

      # What is tried again, by librdkafka or here, is no alarm yet.
      def log(event)
        return unless event.name == :error

        again = event.retry_in || (%w[poll commit].include?(event.reason) && event.error.retriable?)
        SwarmNative.logger&.public_send(again ? :warn : :error, "processor: #{event}")
      rescue StandardError
        nil # a log that cannot be written must not end the work
      end
    end
  end
end

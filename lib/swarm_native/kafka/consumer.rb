# frozen_string_literal: true

require_relative "listeners"
require_relative "offsets"
require_relative "rejoining"

module SwarmNative
  module Kafka
    # A member of a consumer group. One thread polls; the other methods may be called from any thread, {#close} too.
    #
    # @example At least once: an offset is stored when its message has been worked on
    #   consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:9092", "group.id": "billing",
    #                                               "enable.auto.offset.store": false, "auto.offset.reset": "earliest")
    #   consumer.subscribe("orders")
    #   consumer.each_batch do |batch|
    #     batch.each do |message|
    #       bill(message.payload)
    #       consumer.store_offset(message)
    #     end
    #   end
    #
    # @!method assignment
    #   @return [Hash{String => Array<Integer>}] topics with the partitions that this member has
    # @!method assignment_lost?
    #   @return [Boolean] true when the group has given the partitions away without waiting for this member
    # @!method rebalance_protocol
    #   @return [String] `EAGER`, `COOPERATIVE`, or `NONE` until there is one
    # @!method subscription
    #   @return [Array<String>] topics and patterns subscribed to
    # @!method closed?
    #   @return [Boolean]
    # @!method name
    #   @return [String] librdkafka's name of it
    class Consumer
      include Listeners
      include Offsets
      include Rejoining

      # Where librdkafka's own default makes no sense here. It fetches no more once 100,000 messages wait, and looks again
      # after a second, in which a consumer as fast as this one has nothing to do.
      DEFAULTS = { "fetch.queue.backoff.ms": 10 }.freeze
      private_constant :DEFAULTS

      private_class_method :native_open

      # @param config [Hash] librdkafka's own property names, as for {Producer.new}; `group.id` is needed
      # @param token [#call, nil] with `"sasl.mechanisms": "OAUTHBEARER"`: called on the thread that polls, with
      #   `sasl.oauthbearer.config`, whenever librdkafka wants a token. Returns a Hash: `token` and `principal` (Strings),
      #   `expires_at` (a Time), and `extensions` (a Hash, optional). What it raises is a failure, told by an error and
      #   tried again by librdkafka
      # @raise [ConfigurationError] names every property that is unknown or has a value that cannot be
      def self.new(config = {}, token: nil, **more)
        config = config.to_h.merge(more)
        config = DEFAULTS.reject { |name, _| config.key?(name.to_s) }.merge(config)
        made_at = Kafka.made_at
        Kafka.send(:turn_on)
        native_open(config, made_at, !token.nil?).tap { |consumer| consumer.send(:remember, config, made_at, token) }
      end

      # Joins the group for these topics, in place of those before. The partitions come while it polls.
      #
      # @param topics [Array<String>] names; one that begins with `^` is a regular expression
      # @return [self]
      # @raise [Kafka::Error]
      def subscribe(*topics)
        topics = topics.flatten
        raise ArgumentError, "subscribe needs at least one topic" if topics.empty?

        native_subscribe(topics)
        @topics = topics
        self
      end

      # Gives the partitions back.
      #
      # @return [self]
      def unsubscribe
        native_unsubscribe
        @topics = nil
        self
      end

      # Takes partitions by hand, in place of those before; no group gives or takes any.
      #
      # @param partitions [Hash{String => Array<Integer>, Hash{Integer => Integer, Symbol, nil}}] topics with partition
      #   numbers, or with partitions and where to start: an offset, `:beginning`, `:end`, or nil for the committed one
      # @return [self]
      def assign(partitions)
        native_assign(partition_list(partitions))
        self
      end

      # Hands out no more messages of these partitions, until {#resume}. What the group takes and gives back
      # is no longer paused.
      #
      # @param partitions [Hash{String => Array<Integer>}] as {#assignment} gives them
      # @return [self]
      # @raise [Kafka::Error] `:unknown_partition`: it is not this member's
      def pause(partitions)
        native_pause(partition_list(partitions), true)
        self
      end

      # Hands out messages of these partitions again.
      #
      # @param (see #pause)
      # @return [self]
      def resume(partitions)
        native_pause(partition_list(partitions), false)
        self
      end

      # Takes the messages that are there; waits, without the GVL, only when there is none.
      #
      # Blocks given to {Listeners#on_assigned} and the like run here, on the calling thread. When the time is over after
      # one of them, the next poll goes on with what is left to tell.
      #
      # @param max [Integer] the most messages
      # @param timeout [Float, nil] how many seconds to wait for the first one; nil waits without end
      # @param max_bytes [Integer] takes no further message once the batch has this size
      # @return [Batch] empty when nothing came in time
      # @raise [Kafka::Error] such as `:unknown_topic_or_part`; polling on is allowed, unless it is `fatal?`
      # @raise [ClosedHandle] the consumer is closed, maybe meanwhile by another thread
      def poll_batch(max = 100, timeout = 1.0, max_bytes: 64 * 1024 * 1024)
        check_limit("max", max, "messages")
        check_limit("max_bytes", max_bytes, "bytes")
        poll_until(max, max_bytes, timeout)
      end

      # @param timeout [Float, nil] seconds
      # @return [Message, nil]
      # @raise (see #poll_batch)
      def poll(timeout = 1.0)
        # A message that is there takes no clock and no batch.
        native_next(timeout) || poll_until(1, 64 * 1024 * 1024, timeout)[0]
      end

      # Has the poll that waits return at once with an empty batch, or else the next one that would wait. From any thread
      # and from a trap handler. Under a fiber scheduler it may take 0.3 s.
      #
      # @return [self]
      # @raise [StaleHandle]
      def wakeup
        native_wakeup
        self
      end

      # Hands out batches until the consumer is closed, by the block or by another thread.
      #
      # @param max [Integer] as for {#poll_batch}
      # @param max_bytes [Integer] as for {#poll_batch}
      # @yieldparam batch [Batch] never an empty one
      # @return [self]
      # @raise (see #poll_batch)
      def each_batch(max = 100, max_bytes: 64 * 1024 * 1024)
        return enum_for(:each_batch, max, max_bytes: max_bytes) unless block_given?

        until closed?
          batch = begin
            poll_batch(max, nil, max_bytes: max_bytes)
          rescue ClosedHandle
            break
          end
          yield batch unless batch.empty?
        end
        self
      end

      # Leaves the group, so that others take over at once, and ends the handle. Stored offsets are committed first,
      # where `enable.auto.commit` is on. Only the first call does. Blocks given to {Listeners#on_revoked} run here, for
      # as long as they take; what comes after them keeps to the time.
      #
      # @param timeout [Float] seconds
      # @return [Boolean] true when the group was left in time, or when it was closed already
      # @raise what such a block has raised, once the handle has ended all the same
      def close(timeout = 10.0)
        deadline = now + timeout
        raised = leave_group(deadline) if listens_to_rebalances? && !closed?
        left = Kafka.wait { native_close([deadline - now, 0].max) } != false
        raise raised if raised

        left
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{name}>"
      end

      private

      def poll_until(max, max_bytes, timeout)
        started = now
        rest = timeout
        loop do
          found = poll_or_rejoin(max, max_bytes, rest)
          return found if found.is_a?(Batch)

          hear(found) if found
          next unless timeout

          passed = now - started
          return native_nothing if passed >= timeout && passed >= HEARING

          rest = [timeout - passed, 0].max
        end
      end

      def poll_once(max, max_bytes, timeout)
        Kafka.scheduled? ? poll_for_fiber(max, max_bytes, timeout) : native_poll(max, max_bytes, timeout)
      end

      # Under a fiber scheduler nothing may wait but the scheduler; the queue's descriptor wakes it.
      def poll_for_fiber(max, max_bytes, timeout)
        deadline = timeout && (now + timeout)
        loop do
          native_rearm
          found = native_poll(max, max_bytes, 0)
          return found unless found.is_a?(Batch) && found.empty?

          rest = deadline ? deadline - now : 0.3
          return found if rest <= 0 || native_woken?

          # Each poll is a sign of life, and a close by another fiber is seen by then.
          to_io.wait_readable([rest, 0.3].min)
        end
      end

      def to_io
        @to_io ||= native_io
      end

      # @return [StandardError, nil] what a block has raised
      def leave_group(deadline)
        raised = nil
        while (told = Kafka.wait { native_leave([deadline - now, 0].max) })
          begin
            hear(told)
          rescue ClosedHandle
            raise
          rescue StandardError => e
            raised ||= e
          end
        end
        raised
      rescue ClosedHandle
        raised # Another thread was first.
      end

      def check_limit(name, limit, what)
        return if limit.is_a?(Integer) && limit.positive?

        raise ArgumentError, "#{name} is a number of #{what} from 1 on, not #{limit.inspect}"
      end

      def now
        Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end
  end
end

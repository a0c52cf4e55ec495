# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # A librdkafka handle that is live in this process.
    class LiveHandle
      # @return [String] the class of the Ruby object that holds it, such as `WaterDrop::Producer`; "librdkafka handle"
      #   where there is none
      attr_reader :class_name

      # @return [String] its name, such as `rdkafka#producer-1`; empty where it is not known
      attr_reader :name

      # @return [String, nil] the line that made it, as `file:line`, where it is known
      attr_reader :made_at

      # @return [Time, nil] since when it has been there, where it is known
      attr_reader :since

      # @return [Symbol] `:opening`, `:open` or `:closing`
      attr_reader :phase

      # @return [String, nil] whose it is where it is not ours: the file of its librdkafka, the threads it may have
      attr_reader :origin

      def initialize(class_name:, name: "", made_at: nil, since: nil, phase: :open, origin: nil)
        @class_name = class_name
        @name = name
        @made_at = made_at
        @since = since
        @phase = phase
        @origin = origin
        freeze
      end

      # @return [String] as it stands in the message of a {ForkRefused}
      def to_s
        text = String.new(class_name)
        text << " " << name unless name.empty?
        text << " (made at " << made_at << ")" if made_at
        text << " (" << origin << ")" if origin
        text << { opening: ", being made", closing: ", being closed" }.fetch(phase, "")
      end

      def inspect
        "#<#{self.class} #{self}>"
      end
    end
  end
end
